"""Plain CLIP as a classifier of proposed regions, without detection training."""
