"""The server's live page: runs, rounds, curves as they grow, sites with their state. It only reads the server folder."""
