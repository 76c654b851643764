-- SPDX-License-Identifier: Apache-2.0
-- What an operator says of an event that they drop.

ALTER TABLE skip ADD COLUMN note TEXT NOT NULL DEFAULT '';
