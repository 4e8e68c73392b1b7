"""Rules of what cannot run, by what they are about. Free of torch."""
