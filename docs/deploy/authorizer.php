<?php // php -S 127.0.0.1:8000 authorizer.php
$question = json_decode(file_get_contents('php://input'), true);
$token = $question['connection']['query']['token'][0] ?? '';
$user = ['abc' => 42][$token] ?? null;
$channels = ['hello', "user:$user"];
$allowed = $user && ($question['command'] === 'connect' || in_array($question['args']['channel'], $channels, true));
http_response_code($allowed ? 200 : 403);
