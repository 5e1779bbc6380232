"""From commits to the rows of the products and the record of the run."""
