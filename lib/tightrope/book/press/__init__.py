"""From chapters to pages: executing, keys, pairs, the site."""
