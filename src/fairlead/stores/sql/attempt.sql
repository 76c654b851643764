-- SPDX-License-Identifier: Apache-2.0
-- What people look at.

-- name: insert
INSERT INTO attempt (subscription, partition, first_pos, last_pos, key, attempt, target, started_at,
                     duration_ms, outcome, status, detail, packed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: list
-- Newest first, read until there are enough. A packed row may hold other keys and positions than those asked for.
SELECT number, partition, first_pos, key, attempt, target, started_at, duration_ms, outcome, status, detail, packed
FROM attempt
WHERE subscription = :subscription AND number < :before
  AND (:outcome IS NULL OR outcome = :outcome)
  AND (:partition IS NULL OR partition = :partition)
  AND (:position IS NULL OR :position BETWEEN first_pos AND last_pos)
  AND (:key IS NULL OR key = :key OR (packed IS NOT NULL AND instr(packed, :packed_key) > 0))
ORDER BY number DESC;

-- name: last_error
SELECT started_at, outcome, status, detail FROM attempt
WHERE subscription = ? AND outcome <> 'delivered' ORDER BY number DESC LIMIT 1;

-- name: prune
-- Numbers grow with time, so the oldest rows are the first ones.
DELETE FROM attempt WHERE number IN (
    SELECT number FROM (SELECT number, started_at FROM attempt ORDER BY number LIMIT :limit)
    WHERE started_at < :older_than);
