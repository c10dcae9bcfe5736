<?php // php -S 127.0.0.1:9000 receiver.php
$batch = json_decode(file_get_contents('php://input'), true);
flock($lock = fopen('events.lock', 'c'), LOCK_EX); // one call after the other
$state = json_decode(@file_get_contents('events.json') ?: '{"seen":{},"online":{}}', true);
$last = $state['seen'][$batch['node']] ?? 0;
foreach ($batch['events'] as $event) {
    if ($event['seq'] <= $last) {
        continue; // it has come before
    }
    if ($event['event'] === 'connected') {
        $state['online'][$event['connection']['id']] = $event['connection'];
    } elseif ($event['event'] === 'disconnected') {
        unset($state['online'][$event['connection']['id']]);
    }
    $last = $event['seq'];
}
$state['seen'][$batch['node']] = $last;
file_put_contents('events.json.new', json_encode($state)); // a batch and its last number are written together,
rename('events.json.new', 'events.json'); // or not at all
http_response_code(204);
