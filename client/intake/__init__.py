"""How studies come in: archives, a receiver, queries to the hospital's PACS, and the queue that outlives a restart."""
