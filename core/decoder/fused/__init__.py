"""A decode step of the whole model in one compiled call for each thread.

At one token a step, most of the time of a plain implementation goes to starting small operations. Here every thread
walks through all layers by itself: products are divided by output rows and attention by heads, small vectors are computed
by each thread for itself, and threads meet at barriers where one needs what another made.
"""
