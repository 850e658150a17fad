INSERT INTO responses (project_id, id, api_key_id, status, model, account, created_at, expires_at, outline, content, body)
SELECT '{project}', 'resp_' || n, 'key_1', 'completed', 'm', 'a', {now}, {now} + 100, '\x{outline}', '\x7b7d', '\x7b7d'
FROM generate_series(1, {count}) AS n;

INSERT INTO items (response_key, position, project_id, id)
SELECT key, place, '{project}', CASE place WHEN 0 THEN 'msg_often' ELSE 'msg_' || key END
FROM responses, generate_series(0, 1) AS place WHERE project_id = '{project}';

INSERT INTO usage (at, request_id, project_id, api_key_id, endpoint, model, status, attempts, is_stream, is_background,
  is_stored, response_id)
SELECT {now}, 'req', '{project}', 'key_1', 'responses', 'm', 200, 1, false, false, true, 'resp_' || n
FROM generate_series(1, {count}) AS n;

INSERT INTO conversations (project_id, id, created_at, item_count, metadata, indexed_key)
SELECT '{project}', 'conv_' || n, {now}, 0, '\x7b7d', 1000000 FROM generate_series(1, {count}) AS n;

INSERT INTO conversation_turns (conversation_key, outline, content)
SELECT (SELECT min(key) FROM conversations WHERE project_id = '{project}'), '\x{outline}', '\x7b7d'
FROM generate_series(1, {count}) AS n;

INSERT INTO conversation_items (conversation_key, id, turn_key)
SELECT conversation_key, 'msg_' || key, key FROM conversation_turns ON CONFLICT DO NOTHING;

INSERT INTO runs (project_id, id, api_key_id, status, is_stored, is_streamed, cancel_requested, epoch, lease_until,
  created_at, expires_at, headers, body)
SELECT '{project}', 'run_' || n, 'key_1', 'completed', true, true, false, 1, {now}, {now}, CAST({now} AS BIGINT) * 2, '\x7b7d', '\x7b7d'
FROM generate_series(1, {count}) AS n;

INSERT INTO runs (project_id, id, api_key_id, status, is_stored, is_streamed, cancel_requested, owner, epoch, lease_until,
  created_at, headers, request, body, model, conversation_id)
SELECT '{project}', 'wait_' || n, 'key_1', 'queued', true, true, false, CASE n WHEN 1 THEN 'them' END, 1,
  CASE n WHEN 1 THEN CAST({now} AS BIGINT) * 2 ELSE 0 END, {now}, '\x7b7d', '\x7b7d', '\x7b7d', 'm', 'conv_2'
FROM generate_series(1, {count} / 100) AS n
