"""The proof that a file and the contract agree, whatever template wrote it."""
