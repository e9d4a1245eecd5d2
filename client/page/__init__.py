"""The site's live page: what waits for approval, what left, how the site stands, what privacy was spent. It stays inside the hospital."""
