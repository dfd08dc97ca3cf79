-- A client whose every request differs: its own identifiers, its own numbers, its own length.
local key = os.getenv("BENCH_KEY")
local pool, size, at = {}, 20000, 0
math.randomseed(7)
for i = 1, size do
  local row = {}
  for j = 1, 10 do row[j] = string.format("%.17g", math.random() - 0.5) end
  local body = '{"data": [[' .. table.concat(row, ", ") .. ']]}'
  pool[i] = "POST /api/v1/service/diabetes/score HTTP/1.1\r\nHost: 127.0.0.1\r\n" ..
    "Content-Type: application/json\r\nAuthorization: Bearer " .. key .. "\r\n" ..
    "User-Agent: azsdk-python/1.2 Python/3.11.7\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n" ..
    string.format("x-ms-client-request-id: %08x-0000-4000-8000-%012x\r\n", i, i * 7919) ..
    string.format("traceparent: 00-%032x-%016x-01\r\n", i * 104729, i) ..
    "Content-Length: " .. #body .. "\r\n\r\n" .. body
end
request = function()
  at = at % size + 1
  return pool[at]
end
