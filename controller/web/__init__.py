"""The dashboard: pages for browsers, beside the API, at every path that is not the API's.

`routes` (a module a page) ask `controller.views` and answer with the `templates` that `pages` renders.
`overview` and `history` are what the first page shows, `matrix` the second, in `words` of people. `forms`
reads what a form sends, `acts` and `notify_acts` say what a person can do, and do it. `access` lets in
browsers with a session, or users of the trusted proxy; `problems` says on a page what is wrong, `waiting`
what a controller that starts waits for; `headers` forbids everything that is not ours; `assets` serves
`static`. `live` says which parts of the database changed, for open pages. `app` assembles all, with
the API.
"""
