-- SPDX-License-Identifier: Apache-2.0
-- Subscriptions; their generation outlives them.

-- name: insert
INSERT INTO subscription (id, revision, state, reason, since, created_at, record) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: update
UPDATE subscription SET revision = ?, state = ?, reason = ?, since = ?, record = ? WHERE id = ?;

-- name: put_state
UPDATE subscription SET state = ?, reason = ?, since = ? WHERE id = ?;

-- name: get
SELECT id, revision, state, reason, since, created_at, record, generation
FROM subscription JOIN subscription_generation USING (id) WHERE id = ?;

-- name: all
SELECT id, revision, state, reason, since, created_at, record, generation
FROM subscription JOIN subscription_generation USING (id) ORDER BY id;

-- name: raise_generation
-- Greater than every earlier one, and the wall clock's milliseconds where that goes.
INSERT INTO subscription_generation (id, generation) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET generation = max(generation + 1, excluded.generation)
RETURNING generation;

-- name: raise_every_generation
UPDATE subscription_generation SET generation = max(generation + 1, ?);

-- name: adopt_generations
-- After a restored backup every channel begins a new run.
UPDATE channel SET epoch = epoch + 1,
    generation = (SELECT generation FROM subscription_generation AS g WHERE g.id = channel.subscription);

-- name: put_matching
INSERT OR REPLACE INTO subscription_matching (subscription, revision, matching) VALUES (?, ?, ?);

-- name: matching
SELECT matching FROM subscription_matching WHERE subscription = ? AND revision <= ?
ORDER BY revision DESC LIMIT 1;

-- name: insert_channel
INSERT INTO channel (subscription, partition, generation, epoch, target) VALUES (?, ?, ?, 1, 0);

-- name: insert_progress
INSERT INTO progress (subscription, partition, low_water, scan_pos, done_ranges) VALUES (?, ?, ?, ?, ?);

-- name: delete
DELETE FROM subscription WHERE id = ?;

-- name: delete_channels
DELETE FROM channel WHERE subscription = ?;

-- name: delete_progress
DELETE FROM progress WHERE subscription = ?;

-- name: delete_holds
DELETE FROM hold WHERE subscription = ?;

-- name: delete_skips
DELETE FROM skip WHERE subscription = ?;

-- name: delete_filters
DELETE FROM filter_revision WHERE subscription = ?;

-- name: delete_matchings
DELETE FROM subscription_matching WHERE subscription = ?;

-- name: delete_attempts
DELETE FROM attempt WHERE subscription = ?;

-- name: count
SELECT count(*) FROM subscription;
