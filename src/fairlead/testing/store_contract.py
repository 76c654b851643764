# SPDX-License-Identifier: Apache-2.0
"""The suite that every store passes unchanged.

A store's test module subclasses `StoreContract` and gives it a fixture `make_store`: a function that opens
the database of this test, and called again (when the store before it is closed) the same one::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyStore.open(tmp_path / "store.db")

It may return the store or an awaitable of it. A new database has no subscription and no owner.
"""

from __future__ import annotations

from fairlead.testing.store_contract_channels import ChannelsContract
from fairlead.testing.store_contract_log import LogContract
from fairlead.testing.store_contract_replay import ReplayContract
from fairlead.testing.store_contract_subscriptions import AccessContract, SubscriptionsContract


class StoreContract(LogContract, ChannelsContract, ReplayContract, SubscriptionsContract, AccessContract):
    """Every rule of `fairlead.ports` for stores, by one test each."""
