<?php // php -S 127.0.0.1:8000 authorizer.php
function is_signed(string $key, string $header, string $body): bool {
    if (!preg_match('/^t=(\d{1,12}),/', $header, $t) || abs(time() - (int) $t[1]) > 60) return false;
    $expected = hash_hmac('sha256', "$t[1].$body", $key);
    preg_match_all('/,v1=([0-9a-f]{64})/', $header, $v1);
    return (bool) array_filter($v1[1], fn($each) => hash_equals($expected, $each));
}
function decide(array $question): array {
    $user = ['abc' => 42][$question['connection']['query']['token'][0] ?? ''] ?? null;
    $channels = ['hello', "user:$user"];
    if (!$user) return ['status' => 403, 'message' => 'unknown token'];
    $allow = ['join' => $channels, 'broadcast' => $channels]; // wsify need not ask about these
    if (in_array($question['command'], ['connect', 'refresh'], true))
        return ['status' => 200, 'user' => $user, 'allow' => $allow, 'expires_in' => 3600];
    if (in_array($question['args']['channel'], $channels, true)) return ['status' => 200];
    return ['status' => 403, 'message' => "not for user $user"];
}
$body = file_get_contents('php://input');
$key = (string) getenv('AUTHORIZER_KEY'); // without it signatures are not checked
if ($key !== '' && !is_signed($key, $_SERVER['HTTP_X_WSIFY_SIGNATURE'] ?? '', $body)) {
    http_response_code(401);
    exit;
}
$answer = decide(json_decode($body, true) ?? []);
http_response_code($answer['status']);
header('Content-Type: application/vnd.wsify+json');
echo json_encode($answer);
