<?php // php -S 127.0.0.1:8000 authorizer.php
function is_signed(string $key, string $header, string $body): bool {
    if (!preg_match('/^t=(\d{1,12}),/', $header, $t) || abs(time() - (int) $t[1]) > 60) return false;
    $expected = hash_hmac('sha256', "$t[1].$body", $key);
    preg_match_all('/,v1=([0-9a-f]{64})/', $header, $v1);
    return (bool) array_filter($v1[1], fn($each) => hash_equals($expected, $each));
}
$body = file_get_contents('php://input');
$key = (string) getenv('AUTHORIZER_KEY'); // without it every question is believed
if ($key !== '' && !is_signed($key, $_SERVER['HTTP_X_WSIFY_SIGNATURE'] ?? '', $body)) {
    http_response_code(401);
    exit;
}
$question = json_decode($body, true);
$token = $question['connection']['query']['token'][0] ?? '';
$user = ['abc' => 42][$token] ?? null;
$channels = ['hello', "user:$user"];
$allowed = $user && ($question['command'] === 'connect' || in_array($question['args']['channel'], $channels, true));
http_response_code($allowed ? 200 : 403);
