"""What the pages of the site are generated from: the tables, schemas, commands and recipes themselves. Nothing that is made here is committed."""
