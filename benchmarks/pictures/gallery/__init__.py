"""Pictures of several runs on the images where the runs differ most or are worst."""
