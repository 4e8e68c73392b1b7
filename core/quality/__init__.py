"""What a configuration costs in quality: perplexity, divergence from the unmodified model, and facts found in long texts."""
