-- SPDX-License-Identifier: Apache-2.0
-- Channels as their owner writes them: fence, progress, holds, skips, filters.

-- name: fence
-- What a fenced write must name; no row: the channel is gone.
SELECT lease.owner, lease.epoch, channel.generation, channel.epoch, channel.target
FROM channel JOIN lease USING (partition)
WHERE channel.subscription = ? AND channel.partition = ?;

-- name: raise_fence
UPDATE channel SET epoch = :epoch, reason = coalesce(:reason, reason),
    switched_at = CASE WHEN target <> :target THEN :now ELSE switched_at END, target = :target
WHERE subscription = :subscription AND partition = :partition;

-- name: raise_epoch
UPDATE channel SET epoch = epoch + 1 WHERE subscription = ? AND partition = ?;

-- name: raise_epochs
UPDATE channel SET epoch = epoch + 1 WHERE subscription = ?;

-- name: put_progress
UPDATE progress SET low_water = ?, scan_pos = ?, done_ranges = ? WHERE subscription = ? AND partition = ?;

-- name: put_progress_fenced
-- Where the fence is the store's; else no row changes.
UPDATE progress SET low_water = ?, scan_pos = ?, done_ranges = ?
WHERE subscription = ? AND partition = ? AND EXISTS (
    SELECT 1 FROM channel JOIN lease USING (partition)
    WHERE channel.subscription = progress.subscription AND channel.partition = progress.partition
      AND lease.owner = ? AND lease.epoch = ? AND channel.generation = ? AND channel.epoch = ?);

-- name: put_hold
INSERT OR REPLACE INTO hold
    (subscription, partition, key, head_pos, attempt, ready_at, state, since, last_outcome, last_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: drop_hold
DELETE FROM hold WHERE subscription = ? AND partition = ? AND key = ?;

-- name: put_skip
INSERT OR REPLACE INTO skip (subscription, generation, partition, pos, key, source, id, reason, by, at, note)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: drop_filters_from
-- Those of a channel that has gone back: what is put in force there holds from there on.
DELETE FROM filter_revision WHERE subscription = ? AND partition = ? AND from_pos >= ?;

-- name: put_filter
INSERT OR REPLACE INTO filter_revision (subscription, partition, from_pos, revision) VALUES (?, ?, ?, ?);

-- name: take_leases
UPDATE lease SET owner = ?, epoch = epoch + 1;

-- name: raise_all_epochs
UPDATE channel SET epoch = epoch + 1;

-- name: put_node
INSERT OR REPLACE INTO node (id, seen_at) VALUES (?, ?);

-- name: channels
SELECT subscription, partition FROM channel ORDER BY subscription, partition;

-- name: state
SELECT lease.owner, lease.epoch, channel.generation, channel.epoch, channel.target, channel.reason,
       channel.switched_at, progress.low_water, progress.scan_pos, progress.done_ranges
FROM channel JOIN lease USING (partition) JOIN progress USING (subscription, partition)
WHERE channel.subscription = ? AND channel.partition = ?;

-- name: holds
SELECT key, head_pos, attempt, ready_at, state, since, last_outcome, last_at FROM hold
WHERE subscription = ? AND partition = ? ORDER BY key;

-- name: filters
SELECT from_pos, revision FROM filter_revision WHERE subscription = ? AND partition = ? ORDER BY from_pos;

-- name: skipped_keys
SELECT DISTINCT key FROM skip WHERE subscription = ? AND generation = ? AND partition = ?;

-- name: skipped_before
SELECT pos FROM skip WHERE subscription = ? AND generation = ? AND partition = ? AND key = ? AND pos < ?
ORDER BY pos DESC LIMIT ?;

-- name: list_holds
SELECT partition, key, head_pos, attempt, ready_at, state, since, last_outcome, last_at, scan_pos
FROM hold JOIN progress USING (subscription, partition)
WHERE subscription = :subscription AND (partition, key) > (:partition, :key)
  AND CASE WHEN :state IS NULL THEN state <> 'slow' ELSE state = :state END
ORDER BY partition, key LIMIT :limit;

-- name: count_holds
SELECT state, count(*) FROM hold WHERE subscription = ? GROUP BY state;

-- name: count_waiting
-- What the holds of a subscription cover, by the log's index of keys; no further than :most.
SELECT count(*) FROM (
  SELECT 1 FROM hold JOIN progress USING (subscription, partition)
  JOIN log ON log.partition = hold.partition AND log.key = hold.key
    AND log.pos BETWEEN hold.head_pos AND progress.scan_pos
  WHERE hold.subscription = :subscription LIMIT :most);

-- name: list_skips
SELECT generation, partition, pos, key, source, id, reason, by, at, note FROM skip
WHERE subscription = :subscription AND generation <= :generation
  AND (generation < :generation OR (partition, pos) > (:partition, :pos))
ORDER BY generation DESC, partition, pos LIMIT :limit;

-- name: count_skips
SELECT count(*) FROM skip JOIN channel USING (subscription, partition, generation) WHERE subscription = ?;
