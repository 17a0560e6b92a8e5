"""Telling people: problems, removals, and that all is well again, by an outbox in the database.

`events` lists what is told, and `notices` says it. `problems` derives what is wrong from conditions, `storms`
gathers, `reminders` repeats, and `collect` writes notices and deliveries. `outbox` says what is due and notes
results, `deliver` sends it in threads of its own. `message` is the text, `send` chooses how it goes: `post`
(HTTP, to `addresses` that are allowed), `mail`, `third_party`. `targets` are what people add, mute and
remove; `errors` say why one was refused or did not take something.
"""
