"""The catalogue of problems: one entry for each `type` (RFC 9457) with which the API can answer.

Routes declare the ones they answer with (`may_answer`); `controller.api.specification` adds those that come
with a route's kind: a parameter, a body, a role, the database. docs/problems.md is made from this catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

EXTENSION: Final = "x-problems"
"""Under this key a declared answer has the names of its problems, until the specification is built."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem.

    Attributes:
        name: the last part of its URI; stable.
        meaning: what happened, and what it means for the client, in sentences.
        hint: what to do, where an answer has no better hint.
    """

    name: str
    status: int
    title: str
    meaning: str
    hint: str

    @property
    def uri(self) -> str:
        """The `type` of its problems, relative to the controller: a page that explains it."""
        return f"/problems/{self.name}"


SEE_OPENAPI: Final = "GET /openapi.json describes the API"
_LOG: Final = "search the controller's log for the error_id"

MALFORMED: Final = ProblemType(
    "malformed",
    400,
    "Malformed request",
    "This is no valid HTTP/1.1, its head is over 64 kB, or its body cannot be read: it is not UTF-8, nested "
    "too deeply, has a number that is too long, or both a length and chunks. Nothing was done.",
    SEE_OPENAPI,
)
UNAUTHENTICATED: Final = ProblemType(
    "unauthenticated",
    401,
    "No valid token",
    "The request has no token, or one that is wrong, revoked or expired; or the trusted proxy names no user "
    "whose name can be taken. Only `/healthz` and `/readyz` answer without. Nothing was done.",
    "log in with `vxctl login`, or send the header `Authorization: Bearer TOKEN`",
)
LOGIN_AGAIN: Final = ProblemType(
    "login-again",
    401,
    "The login is checked again",
    "A list has been followed for some minutes by the login of a trusted proxy. Only a new request shows "
    "whether the user still has it, and in which groups.",
    "connect again, with `Last-Event-ID`, as a browser's `EventSource` does by itself",
)
FAILED_LOGINS: Final = ProblemType(
    "failed-logins",
    429,
    "Too many failed logins",
    "Too many requests with an invalid token came from this address. Valid tokens are answered all the same. "
    "The header `Retry-After` has the seconds to wait.",
    "correct the token that some program there sends",
)
FORBIDDEN: Final = ProblemType(
    "forbidden",
    403,
    "Forbidden",
    "The token is valid, and its role does not allow this; the detail names the role that does. Or the user "
    "of the trusted proxy has too low a role, or none. Nothing was done.",
    "use a token with that role",
)
FOREIGN: Final = ProblemType(
    "foreign-site",
    403,
    "Refused",
    "The request was sent by a page of another web site, or addresses the controller by a name that is not "
    "its own. A browser with access to the controller must not be used by such pages. Nothing was done.",
    "use vxctl, or add the name to VXLAN_OPERATOR_ALLOWED_HOSTS",
)
UNKNOWN: Final = ProblemType(
    "not-found",
    404,
    "Not found",
    "Nothing has this id, unique id prefix or name; or the API has no such path.",
    SEE_OPENAPI,
)
NO_PAGE: Final = ProblemType(
    "no-such-page",
    404,
    "No such page",
    "The cursor is not one of this list, or belongs to a request with other parameters.",
    "leave the cursor out to start at the first page",
)
METHOD: Final = ProblemType(
    "method-not-allowed",
    405,
    "Method not allowed",
    "The path exists, but not with this method. The header `Allow` lists the methods that it has.",
    SEE_OPENAPI,
)
AMBIGUOUS: Final = ProblemType(
    "ambiguous",
    409,
    "Ambiguous",
    "Several nodes, networks or runs have this name or id prefix. The detail lists some of them with "
    "their ids. Nothing was done.",
    "use the id",
)
NO_CLUSTER: Final = ProblemType(
    "no-swarm",
    409,
    "Not ready",
    "The controller has not read the Swarm yet, so there is nothing that could be paused or changed.",
    "`vxctl status` shows why; try again soon",
)
PAUSED: Final = ProblemType(
    "paused",
    409,
    "Paused",
    "The node or the cluster is paused, or a Swarm label excludes the node: a requested run would not start. "
    "Nothing was stored.",
    "`vxctl status` shows who paused it",
)
NAME_TAKEN: Final = ProblemType(
    "name-taken",
    409,
    "Name taken",
    "A valid API token, or a notification target, has this name. Nothing was stored.",
    "choose another name, or revoke or remove what has it first",
)
TARGET_REFUSED: Final = ProblemType(
    "target-refused",
    409,
    "Not with this target",
    "A notification target cannot be as it was given, or not on this controller: its address is none, its "
    "template names what there is not, there is no SMTP server, a heartbeat cannot be muted. Nothing was "
    "changed.",
    "`vxctl notify list` shows all targets",
)
KEY_STATE: Final = ProblemType(
    "key-state",
    409,
    "Not with this key",
    "A key is not in the state that this needs: it is trusted already, no rotation is under way, workers do "
    "not know the next key yet, or the controller lacks the private key. Nothing was changed.",
    "`vxctl keys` and `vxctl node keys` show all keys",
)
CONTRADICTION: Final = ProblemType(
    "contradiction",
    409,
    "Contradiction",
    "Parameters, each valid by itself, contradict each other or the present time: the end of a pause is over "
    "already or more than a year away, or two parameters are given of which one may be. Nothing was done.",
    "change or omit the parameter that the detail names",
)
TOKEN_TAKEN: Final = ProblemType(
    "token-taken",
    409,
    "Token taken",
    "The token of this requeue stands for an earlier request about another node. Nothing was stored.",
    "use another token, or none",
)
LATE: Final = ProblemType(
    "request-timeout",
    408,
    "Request timeout",
    "The whole request did not arrive within 10 s. Nothing was done, and the connection was closed.",
    "send the whole request at once",
)
PRUNED: Final = ProblemType(
    "pruned",
    410,
    "Pruned",
    "The requested audit rows are older than the retention; they are in its archives, not in the database.",
    "the rows are in the archives of the retention",
)
TOO_LARGE: Final = ProblemType(
    "too-large",
    413,
    "Too large",
    "The body is larger than any valid request. It was not read to its end, and nothing was done.",
    SEE_OPENAPI,
)
TOO_SLOW: Final = ProblemType(
    "too-slow",
    408,
    "Too slow",
    "A client that follows a list did not take its events in time; those it lacks are not kept any more.",
    "connect again without `Last-Event-ID`, which sends all rows again, and take the events faster",
)
LONG_URI: Final = ProblemType(
    "uri-too-long",
    414,
    "URI too long",
    "The URL of the request is longer than 32 kB. Nothing was done.",
    SEE_OPENAPI,
)
MEDIA_TYPE: Final = ProblemType(
    "media-type",
    415,
    "Unsupported media type",
    "The API reads JSON bodies only. Nothing was done.",
    "send the body with `Content-Type: application/json`",
)
INVALID: Final = ProblemType(
    "invalid",
    422,
    "Invalid request",
    "A parameter or a field of the body is unknown, given twice, missing, or has an invalid value. The "
    "detail names each of them. Nothing was done.",
    SEE_OPENAPI,
)
BUSY: Final = ProblemType(
    "too-many-requests",
    429,
    "Too many requests",
    "Answers of this kind are expensive, so few are given at a time, and enough requests wait already. "
    "Nothing was done. The header `Retry-After` has the seconds after which to try again.",
    "try again in 5 s, one request at a time",
)
HEADERS: Final = ProblemType(
    "headers-too-large",
    431,
    "Request header fields too large",
    "The request has more than 100 headers, or more than 32 kB of them. Nothing was done.",
    "send fewer or shorter headers",
)
INTERNAL: Final = ProblemType(
    "internal",
    500,
    "Internal error",
    "An error of the controller. Its log has the whole error under the `error_id` of the answer.",
    _LOG,
)
WATCHERS: Final = ProblemType(
    "too-many-watchers",
    503,
    "Too many watchers",
    "Too many clients follow lists already, or too many different lists are followed. The header "
    "`Retry-After` has the seconds after which to try again.",
    "try again in 5 s, or ask for the list without `watch`",
)
STOPPING: Final = ProblemType(
    "stopping",
    503,
    "Stopping",
    "The controller stops or is restarted, and ends the streams of clients that follow lists.",
    "connect again, with `Last-Event-ID`",
)
DATABASE: Final = ProblemType(
    "database-unavailable",
    503,
    "Database unavailable",
    "The controller's database does not answer, is locked, or its disk is full. A request that changes "
    "something was not carried out, or is carried out once the database answers: ask before you repeat it.",
    "try again soon; if that does not help, check the database",
)
CONNECTIONS: Final = ProblemType(
    "too-many-connections",
    503,
    "Too many connections",
    "All connections of the controller are in use. Nothing was done. The header `Retry-After` has the "
    "seconds after which to try again.",
    "try again in 5 s",
)
NOT_READY: Final = ProblemType(
    "not-ready",
    503,
    "Not ready",
    "The controller runs, but cannot do its work at the moment; the detail says what is missing.",
    "look at the controller's log",
)

TYPES: Final = (
    MALFORMED, UNAUTHENTICATED, LOGIN_AGAIN, FORBIDDEN, FOREIGN, UNKNOWN, NO_PAGE, METHOD, LATE,
    TOO_SLOW, AMBIGUOUS, NO_CLUSTER, PAUSED, CONTRADICTION, NAME_TAKEN, TARGET_REFUSED, KEY_STATE,
    TOKEN_TAKEN, PRUNED, TOO_LARGE, LONG_URI, MEDIA_TYPE, INVALID, BUSY, FAILED_LOGINS, HEADERS, INTERNAL,
    CONNECTIONS, WATCHERS, STOPPING, DATABASE, NOT_READY,
)  # fmt: skip
"""All, by status."""

BY_NAME: Final[Mapping[str, ProblemType]] = {kind.name: kind for kind in TYPES}


def may_answer(*kinds: ProblemType) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with these problems, besides those of every route."""
    declared: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        answer = declared.setdefault(kind.status, {"description": kind.title, EXTENSION: []})
        answer[EXTENSION].append(kind.name)
    return declared
