"""Pictures: boxes drawn on images, contact sheets, galleries."""
