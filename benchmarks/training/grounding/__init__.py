"""From ODVG records to the batches that Grounding DINO is trained on."""
