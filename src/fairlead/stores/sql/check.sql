-- SPDX-License-Identifier: Apache-2.0
-- What must hold between the tables. Each statement finds damages: a place, and what is wrong there.

-- name: heads
SELECT 'partition ' || log.partition, 'partition_head ' || coalesce(max(head.pos), 'is missing') || ' is below position '
       || max(log.pos) || ' of the log'
FROM log LEFT JOIN partition_head AS head USING (partition)
GROUP BY log.partition HAVING coalesce(max(head.pos), -1) < max(log.pos);

-- name: progress
SELECT 'progress ' || subscription || '/' || partition,
       'low_water ' || low_water || ', scan_pos ' || scan_pos || ', head ' || pos || ' are not in this order'
FROM progress JOIN partition_head USING (partition)
WHERE NOT (0 <= low_water AND low_water <= scan_pos AND scan_pos <= pos);

-- name: channels
SELECT 'channel ' || subscription.id || '/' || partition_head.partition,
       CASE WHEN channel.epoch IS NULL THEN 'is missing'
            WHEN progress.scan_pos IS NULL THEN 'has no progress'
            ELSE 'has generation ' || channel.generation || ', newer than its subscription''s' END
FROM subscription CROSS JOIN partition_head
LEFT JOIN channel ON channel.subscription = subscription.id AND channel.partition = partition_head.partition
LEFT JOIN progress ON progress.subscription = subscription.id AND progress.partition = partition_head.partition
LEFT JOIN subscription_generation AS made ON made.id = subscription.id
WHERE channel.epoch IS NULL OR progress.scan_pos IS NULL OR channel.generation > coalesce(made.generation, 0);

-- name: holds
SELECT 'hold ' || hold.subscription || '/' || hold.partition || ' ' || hold.key,
       CASE WHEN scan_pos IS NULL THEN 'belongs to no channel'
            WHEN state NOT IN ('held', 'parked', 'slow') THEN 'has an unknown state ' || state
            ELSE 'head_pos ' || head_pos || ' is not between 1 and what was read, ' || scan_pos END
FROM hold LEFT JOIN progress USING (subscription, partition)
WHERE scan_pos IS NULL OR state NOT IN ('held', 'parked', 'slow') OR head_pos < 1 OR head_pos > scan_pos + 1
   OR attempt < 0;

-- name: filters
SELECT 'filter ' || f.subscription || '/' || f.partition || ' from ' || f.from_pos,
       'revision ' || f.revision || ' is not kept'
FROM filter_revision AS f
WHERE NOT EXISTS (SELECT 1 FROM subscription_matching AS m
                  WHERE m.subscription = f.subscription AND m.revision <= f.revision);

-- name: ranges
SELECT 'progress ' || subscription || '/' || partition, low_water, scan_pos, done_ranges FROM progress;

-- name: events
SELECT partition, pos, key, attributes, data, form, digest, accepted_at FROM log ORDER BY partition, pos;
