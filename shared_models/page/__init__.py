"""What the live pages of server and site have in common: who may come in, how a page is drawn and kept up to date, where it listens."""
