"""Where images come from, and how batches of pairs are made of them."""
