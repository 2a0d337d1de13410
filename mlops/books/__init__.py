"""Position accounting: a book, a virtual book, a real book's twin. Pure: no clock, no files."""
