"""A detector without detection training of its own: plain CLIP names the regions that somebody else proposes."""
