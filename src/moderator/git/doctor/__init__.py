"""What can be wrong with a repository and its workspaces, how to tell, and what of it can be mended without a risk."""
