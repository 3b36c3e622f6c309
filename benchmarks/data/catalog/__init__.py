"""Data sets: cards, where their files lie, how they are made or fetched, and their images."""
