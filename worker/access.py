"""Opening the kernel, or telling a person in one line why that cannot be done."""

from contract.runtime.errors import OperatorError
from worker.kernel.api import KernelError, NotPermittedError
from worker.kernel.rtnetlink import RouteNetlink


def open_kernel() -> RouteNetlink:
    """Open the kernel, with proof that an empty answer from it will mean that there is nothing.

    Raises:
        OperatorError: this process may not look, or there is no route netlink here.
    """
    try:
        kernel = RouteNetlink.open()
    except KernelError as error:
        raise OperatorError(str(error), "run it on Linux, with route netlink") from error
    try:
        kernel.check_capability()
    except NotPermittedError as error:
        kernel.close()
        raise OperatorError(
            str(error),
            "run it as root, or give it CAP_NET_ADMIN and the host's network "
            "(docker run --network host --cap-add NET_ADMIN ...)",
        ) from error
    except KernelError as error:
        kernel.close()
        raise OperatorError(str(error), "try again; the kernel's log may say more") from error
    return kernel
