"""Networks and their weights. This package knows no other part of Resonate."""
