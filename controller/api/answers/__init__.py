"""What the API's answers look like; the field names are a promise to those who script against it.

`nodes`, `cluster`, `networks`, `devices`, `runs`, `safety`, `audit` and `chain`, by subject, on one `base`.
"""
