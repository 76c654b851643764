# SPDX-License-Identifier: Apache-2.0
"""A receiver as a Django view: `path("hook", view(receiver))`. Needs Django, which is the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairlead.errors import TooLarge
from fairlead.sdk.receiving.reply import of_problem

if TYPE_CHECKING:
    from fairlead.sdk.receiving.receiver import Receiver


def view(receiver: Receiver) -> Callable[[Any], Any]:
    """A sync view, exempt from CSRF checks: a delivery's signature is its protection.

    Django refuses bodies over `DATA_UPLOAD_MAX_MEMORY_SIZE` (2.5 MiB); raise it to the relay's 8 MiB.
    """
    from django.conf import settings
    from django.core.exceptions import RequestDataTooBig
    from django.http import HttpResponse
    from django.views.decorators.csrf import csrf_exempt

    def deliver(request: Any) -> Any:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            reply = receiver.handle(request.method, headers, request.body)
        except RequestDataTooBig as error:
            limit = {"limit_bytes": settings.DATA_UPLOAD_MAX_MEMORY_SIZE}
            reply = of_problem(TooLarge(f"DATA_UPLOAD_MAX_MEMORY_SIZE: {error}", members=limit))
        return HttpResponse(reply.body, status=reply.status, headers=reply.headers)

    exempt: Callable[[Any], Any] = csrf_exempt(deliver)
    return exempt
