-- A client of one row per request, the way python-requests sends it. No two requests are equal: nine
-- numbers come from a pool, the tenth says how often the pool was gone through. (To format a number
-- for each request costs 2 us more.)
--   BENCH_PATH, BENCH_KEY      where to, and the key (empty: no Authorization header)
--   BENCH_BEFORE, BENCH_AFTER  the body around the ten numbers
--   BENCH_SEED                 a number of four digits that no other run has
--   BENCH_IDENTIFIERS          if set, each request also has identifiers of its own
local path, key = os.getenv("BENCH_PATH"), os.getenv("BENCH_KEY") or ""
local before, after = os.getenv("BENCH_BEFORE"), os.getenv("BENCH_AFTER")
local seed, identifiers = tonumber(os.getenv("BENCH_SEED")), os.getenv("BENCH_IDENTIFIERS")
local pool, size, at, turn = {}, 1024, 0, 0
local tenth = string.format("0.0%04d", seed) .. "%08d" .. after
math.randomseed(seed)
local head = "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" ..
  "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n" ..
  "Connection: keep-alive\r\nContent-Type: application/json\r\n"
if key ~= "" then head = head .. "Authorization: Bearer " .. key .. "\r\n" end
for i = 1, size do
  local row = {}
  for j = 1, 9 do row[j] = string.format("%.16f", (math.random() - 0.5) / 5):gsub("0+$", "0") end
  local body = before .. table.concat(row, ", ") .. ", "
  local length = #body + #string.format(tenth, 0)
  local rest = "Content-Length: " .. length .. "\r\n\r\n" .. body
  pool[i] = identifiers and rest or head .. rest
end
local format, last = string.format, ""
request = function()
  at = at + 1
  local i = at % size + 1
  if i == 1 or at == 1 then
    turn = turn + 1
    last = format(tenth, turn)
  end
  if identifiers then
    return head .. format("x-ms-client-request-id: %08x-0000-4000-8000-%012x\r\n", seed, at) ..
      format("traceparent: 00-%024x%08x-%016x-01\r\n", seed, at, at) .. pool[i] .. last
  end
  return pool[i] .. last
end
