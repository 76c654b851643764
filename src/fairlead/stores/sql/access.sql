-- SPDX-License-Identifier: Apache-2.0
-- API keys, rejects, notes, settings.

-- name: add_key
INSERT INTO api_key (id, name, digest, grants, created_at, expires_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: keys
SELECT id, name, digest, grants, created_at, expires_at, last_used_at FROM api_key ORDER BY created_at, id;

-- name: find_key
SELECT id, name, digest, grants, created_at, expires_at, last_used_at FROM api_key WHERE digest = ?;

-- name: touch_key
UPDATE api_key SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?;

-- name: delete_key
DELETE FROM api_key WHERE id = ?;

-- name: add_reject
INSERT OR REPLACE INTO reject (id, source, received_at, reason, headers, body, size_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: has_like
-- The ids of the last ones first: bodies are large, and their lengths are known without reading them.
SELECT EXISTS (
    SELECT 1 FROM reject
    WHERE id IN (SELECT id FROM reject WHERE source = :source ORDER BY id DESC LIMIT 1000)
      AND length(body) = length(:body) AND instr(headers, :header)
      AND size_bytes = :size_bytes AND body = :body);

-- name: rejects
SELECT id, source, received_at, reason, headers, body, size_bytes FROM reject
WHERE id > :after AND (:source IS NULL OR source = :source) ORDER BY id LIMIT :limit;

-- name: reject
SELECT id, source, received_at, reason, headers, body, size_bytes FROM reject WHERE id = ?;

-- name: delete_reject
DELETE FROM reject WHERE id = ?;

-- name: prune_rejects
-- Ids are in the order of time, so the oldest rows are the first ones.
DELETE FROM reject WHERE id IN (
    SELECT id FROM (SELECT id, received_at FROM reject ORDER BY id LIMIT :limit) WHERE received_at < :older_than);

-- name: note
SELECT text FROM note WHERE source = ? AND subject = ?;

-- name: put_note
INSERT OR REPLACE INTO note (source, subject, text) VALUES (?, ?, ?);

-- name: setting
SELECT value FROM setting WHERE name = ?;

-- name: put_setting
INSERT OR IGNORE INTO setting (name, value) VALUES (?, ?);

-- name: insert_lease
INSERT OR IGNORE INTO lease (partition, owner, epoch) VALUES (?, NULL, 0);

-- name: insert_head
INSERT OR IGNORE INTO partition_head (partition, pos) VALUES (?, 0);
