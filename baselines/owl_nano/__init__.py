"""``owl-nano``: a detector of the OWL-ViT type, small enough to be trained on one CPU core in half an hour."""
