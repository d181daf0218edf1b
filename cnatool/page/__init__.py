"""One self-contained page to look at: stores and studies, their samples, layers and networks."""
