"""What went wrong with the hub, in words that say what to do."""

from __future__ import annotations

import errno

from mlc_llm.errors import HubError
from mlc_llm.weights.hub.access import HubAccess, reason
from mlc_llm.weights.hub.reference import HubReference


class NotCached(Exception):
    """The hub's cache does not have all files of a model."""


def failure(reference: HubReference, access: HubAccess, error: Exception) -> HubError:
    """The error to raise for what a request or a download raised.

    Args:
        reference: what was asked for.
        access: the hub that was asked.
        error: what the client raised, which depends on its version and on its HTTP library.
    """
    from huggingface_hub import constants, errors

    endpoint, repository = access.endpoint, reference.repository
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{reference} is gated. Accept its terms at {endpoint}/{repository}, then "
            "log in with `hf auth login` or set HF_TOKEN.",
            code="repository-gated",
        )
    # The client knows what 401 means of the hub itself only, not of a mirror.
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return HubError(
            f"{endpoint} has no repository {repository}, or it is private. Check the "
            "name; for a private one, log in with `hf auth login` or set HF_TOKEN.",
            code="repository-not-found",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{repository} has no revision {reference.revision!r}. "
            f"Its branches and tags: {endpoint}/{repository}/tree/main",
            code="revision-unknown",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return HubError(
            f"The disk is full: {reference} does not fit into {constants.HF_HUB_CACHE}. Free some "
            "space or set HF_HOME to another disk; what was fetched is kept.",
            code="disk-full",
        )
    if isinstance(error, TimeoutError | errors.LocalEntryNotFoundError):
        return HubError(
            f"{endpoint} does not answer any longer, and {reference} is not wholly in the cache "
            f"{constants.HF_HUB_CACHE}. Check the network connection and try again: what was "
            f"fetched is kept. ({reason(error.__cause__ or error)})",
            code="hub-unreachable",
        )
    return HubError(
        f"{reference} could not be fetched from {endpoint}: {reason(error)}. Try again: what was "
        "fetched is kept."
    )


def not_cached(
    reference: HubReference, access: HubAccess, unanswered: Exception | None
) -> HubError:
    """The error for a model that is not in the cache, where the hub was not asked, or in vain.

    Args:
        reference: what was asked for.
        access: the hub.
        unanswered: what asking the hub raised; None where it was not asked.
    """
    from huggingface_hub import constants, errors

    if isinstance(unanswered, errors.HfHubHTTPError):
        return failure(reference, access, unanswered)
    where = f"{reference} is not, or not wholly, in the cache {constants.HF_HUB_CACHE}"
    if unanswered is not None:
        return HubError(
            f"{access.endpoint} could not be reached, and {where}. Check the network connection "
            f"and try again: what was fetched is kept. ({reason(unanswered)})",
            code="hub-unreachable",
        )
    if constants.HF_HUB_OFFLINE:
        return HubError(
            f"{where}, and the hub's offline mode is on. Unset HF_HUB_OFFLINE to fetch it.",
            code="model-not-cached",
        )
    return HubError(f"{where}. Fetch it: mlc_llm pull {reference}", code="model-not-cached")
