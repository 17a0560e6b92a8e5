"""Every page of the dashboard that needs a login, by a name for its picture."""

from typing import Final
from urllib.parse import quote

from tests.browser.world import (
    CONFLICT,
    HEALTHY,
    HELD,
    PAUSED,
    REJECTING,
    SILENT,
    World,
    node_id,
)
from tests.fake_swarm import swarm_id

LEAK_LINE: Final = (
    'web.1 blue-5 Rejected subnet sandbox join failed for "10.0.1.0/24": '
    "error creating vxlan interface: file exists"
)
_RUN: Final = "/runs/RUN"
PAGES: Final = {
    "overview": "/",
    "overview-month": "/?period=30d",
    "matrix": "/matrix",
    "matrix-everything": "/matrix?everything=true",
    "matrix-nothing": "/matrix?node=nobody",
    "cell-held": f"/matrix/cell?node={node_id(HELD)}&network=mail",
    "cell-conflict": f"/matrix/cell?node={node_id(CONFLICT)}&vni=4099",
    "cell-missing": f"/matrix/cell?node={node_id(HEALTHY[0])}&network={swarm_id('evil')}",
    "node-held": f"/nodes/{node_id(HELD)}",
    "node-conflict": f"/nodes/{node_id(CONFLICT)}",
    "node-paused": f"/nodes/{node_id(PAUSED)}",
    "node-silent": f"/nodes/{node_id(SILENT)}",
    "node-rejecting": f"/nodes/{node_id(REJECTING)}",
    "node-markup": f"/nodes/{node_id('markup')}",
    "network": f"/networks/{swarm_id('shop')}",
    "network-markup": f"/networks/{swarm_id('evil')}",
    "run": _RUN,
    "audit": "/audit?since=12h",
    "audit-filtered": f"/audit?node={quote(HEALTHY[4])}&stage=applied&since=7d&urgency=blocking",
    "audit-wrong": "/audit?vni=x",
    "explain": "/explain",
    "safety": "/safety",
    "sessions": "/sessions",
    "requeue": f"/do/requeue?node={node_id(HELD)}",
    "pause": f"/do/pause?node={node_id(HEALTHY[0])}",
    "resume": f"/do/resume?node={node_id(PAUSED)}",
    "mode": f"/do/mode?network={swarm_id('mail')}",
    "breaker-reset": "/do/breaker-reset",
    "notifications": "/notifications",
    "notify-test": "/do/notify/test?target=chat",
    "notify-mute": "/do/notify/mute?target=ops",
    "notify-unmute": "/do/notify/unmute?target=mail",
    "not-found": "/nodes/nobody",
}


def path_of(name: str, world: World) -> str:
    """The path of a page."""
    return PAGES[name].replace("RUN", str(world.healing))
