"""Reports: what a run did and how well, on one self-contained page."""
