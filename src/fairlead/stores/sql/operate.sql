-- SPDX-License-Identifier: Apache-2.0
-- What changes a channel from outside: replay, release, skip, retention. Each raises the epoch (channel.sql).

-- name: where
SELECT progress.low_water, progress.scan_pos, progress.done_ranges, channel.epoch, channel.target, lease.epoch
FROM channel JOIN lease USING (partition) JOIN progress USING (subscription, partition)
WHERE channel.subscription = ? AND channel.partition = ?;

-- name: put_generation
UPDATE channel SET generation = ?, epoch = ? WHERE subscription = ? AND partition = ?;

-- name: drop_holds_from
DELETE FROM hold WHERE subscription = ? AND partition = ? AND head_pos >= ?;

-- name: renew_holds
-- What is held below a replay's start is kept, with a new schedule; parked lanes stay parked.
UPDATE hold SET attempt = 0, ready_at = ?, since = ? WHERE subscription = ? AND partition = ?;

-- name: in_lane
SELECT pos FROM log WHERE partition = ? AND key = ? AND pos BETWEEN ? AND ? ORDER BY pos;

-- name: rewind_lane
INSERT INTO hold (subscription, partition, key, head_pos, attempt, ready_at, state, since)
VALUES (:subscription, :partition, :key, :pos, 0, :now, 'held', :now)
ON CONFLICT (subscription, partition, key) DO UPDATE SET
    head_pos = min(head_pos, excluded.head_pos), attempt = 0, ready_at = excluded.ready_at, state = 'held',
    since = excluded.since;

-- name: release_key
UPDATE hold SET attempt = 0, state = 'held', ready_at = :now, since = :now
WHERE subscription = :subscription AND partition = :partition AND key = :key
  AND CASE WHEN :state IS NULL THEN state <> 'slow' ELSE state = :state END;

-- name: release_state
UPDATE hold SET attempt = 0, state = 'held', ready_at = :now, since = :now
WHERE subscription = :subscription AND partition = :partition
  AND CASE WHEN :state IS NULL THEN state <> 'slow' ELSE state = :state END;

-- name: skip_head
-- Only the lane whose head is the one that was meant.
UPDATE hold SET head_pos = :next, attempt = 0, state = 'held', ready_at = :now, since = :now,
                last_outcome = NULL, last_at = NULL
WHERE subscription = :subscription AND partition = :partition AND key = :key
  AND head_pos = :head AND head_pos < :next AND state <> 'slow';

-- name: keys_between
SELECT DISTINCT key FROM log WHERE partition = ? AND pos BETWEEN ? AND ?;

-- name: drop_empty_hold
-- One of which the log keeps nothing: there is nothing to deliver, nor to look at.
DELETE FROM hold WHERE subscription = ? AND partition = ? AND key = ? AND NOT EXISTS (
  SELECT 1 FROM progress JOIN log ON log.partition = hold.partition AND log.key = hold.key
    AND log.pos BETWEEN hold.head_pos AND progress.scan_pos
  WHERE progress.subscription = hold.subscription AND progress.partition = hold.partition);

-- name: generation
SELECT generation FROM channel WHERE subscription = ? AND partition = ?;
