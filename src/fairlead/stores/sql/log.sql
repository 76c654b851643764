-- SPDX-License-Identifier: Apache-2.0
-- The log. Positions are given by the one writer; `partition_head` is written once per transaction.

-- name: append
-- One event. A row that is there already leaves the count of changed rows at 0.
INSERT INTO log (partition, key, source, id, type, subject, time, content_type, form, attributes, data, digest,
                 accepted_at, pos)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: standing
-- The event that stands under a source, id and key.
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = ? AND source = ? AND id = ? AND key = ?;

-- name: put_head
INSERT INTO partition_head (partition, pos) VALUES (?, ?)
ON CONFLICT (partition) DO UPDATE SET pos = max(pos, excluded.pos);

-- name: heads
SELECT partition, pos FROM partition_head;

-- name: oldest
SELECT min(pos) FROM log WHERE partition = ?;

-- name: page
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = ? AND pos > ? ORDER BY pos LIMIT ?;

-- name: lane
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = ? AND key = ? AND pos BETWEEN ? AND ? ORDER BY pos LIMIT ?;

-- name: first_at
-- Not by binary search: the wall clock may have gone back. The lane index answers alone.
SELECT min(pos) FROM log INDEXED BY log_lane WHERE partition = ? AND accepted_at >= ?;

-- name: search_key
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = :partition AND pos > :after AND key = :key
  AND (:source IS NULL OR source = :source) AND (:id IS NULL OR id = :id)
  AND (:subject IS NULL OR subject = :subject) AND (:type IS NULL OR type = :type)
  AND (:accepted_after IS NULL OR accepted_at > :accepted_after)
ORDER BY pos LIMIT :limit;

-- name: search_identity
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = :partition AND pos > :after AND source = :source AND id = :id
  AND (:subject IS NULL OR subject = :subject) AND (:type IS NULL OR type = :type)
  AND (:accepted_after IS NULL OR accepted_at > :accepted_after)
ORDER BY pos LIMIT :limit;

-- name: search_scan
SELECT pos, key, attributes, data, form, digest, accepted_at FROM log
WHERE partition = :partition AND pos > :after
  AND (:source IS NULL OR source = :source) AND (:id IS NULL OR id = :id)
  AND (:subject IS NULL OR subject = :subject) AND (:type IS NULL OR type = :type)
  AND (:accepted_after IS NULL OR accepted_at > :accepted_after)
ORDER BY pos LIMIT :limit;

-- name: prune
DELETE FROM log WHERE partition = ? AND pos = ?;

-- name: forget_filters
-- A filter is forgotten once the next one holds for everything that is kept.
DELETE FROM filter_revision WHERE partition = :partition AND EXISTS (
    SELECT 1 FROM filter_revision AS next
    WHERE next.subscription = filter_revision.subscription AND next.partition = filter_revision.partition
      AND next.from_pos > filter_revision.from_pos AND next.from_pos <= :oldest);

-- name: forget_matchings
-- What no filter names any more. The newest of each subscription stays: the next filter will name it.
DELETE FROM subscription_matching WHERE EXISTS (
    SELECT 1 FROM subscription_matching AS newer
    WHERE newer.subscription = subscription_matching.subscription
      AND newer.revision > subscription_matching.revision
      AND newer.revision <= (SELECT min(revision) FROM filter_revision
                             WHERE filter_revision.subscription = subscription_matching.subscription));
