"""The course kit: releases the assignments and grades what comes back."""
