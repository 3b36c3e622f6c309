"""Pictures of several runs on the same images, chosen where the runs differ most or are worst."""
