"""Data as files: images, annotations, vocabularies, prompts."""
