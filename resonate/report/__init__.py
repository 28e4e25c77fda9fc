"""The page that a restoration leaves behind: pictures, previews and the account of what was done."""
