"""Opening the kernel, or an `OperatorError` that says why it cannot be opened."""

from contract.runtime.errors import OperatorError
from worker import capabilities
from worker.kernel.api import KernelError, NotPermittedError
from worker.kernel.rtnetlink import RouteNetlink


def open_kernel() -> RouteNetlink:
    """Open the kernel and check that it answers in full: an empty answer must mean no devices.

    Raises:
        OperatorError: this process lacks the capability, or there is no route netlink here.
    """
    try:
        kernel = RouteNetlink.open()
    except KernelError as error:
        raise OperatorError(str(error), "run it on Linux, with route netlink") from error
    try:
        kernel.check_capability()
    except KernelError as error:
        kernel.close()
        hint = "try again; see the kernel's log"
        if isinstance(error, NotPermittedError):
            hint = capabilities.why_missing() or (
                "run it as root, or give it CAP_NET_ADMIN and the host's network "
                "(docker run --network host --cap-add NET_ADMIN ...)"
            )
        raise OperatorError(str(error), hint) from error
    return kernel
