"""Where the library meets a framework: each optional library is imported in one place, and only when that is used."""
