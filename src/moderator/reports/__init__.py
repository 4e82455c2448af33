"""What people read of runs and workspaces: values in, text out."""
