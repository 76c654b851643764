# SPDX-License-Identifier: Apache-2.0
# A correct receiver with Ruby's standard library alone:
#
#     FAIRLEAD_SECRET=whsec_… ruby receiver.rb 8080
#
# It verifies each delivery (Standard Webhooks), ignores what is older than what it has, and says 204 only
# when what it did is on disk. Each event that it takes is printed as one line of JSON.

require "base64"
require "json"
require "openssl"
require "pstore"
require "socket"

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 8 * 1024 * 1024
SECRETS = ENV.fetch("FAIRLEAD_SECRET").split.map { |text| Base64.strict_decode64(text.delete_prefix("whsec_")) }
SEEN = PStore.new(ENV.fetch("SEEN_FILE", "seen.pstore"), true)
SEEN.ultra_safe = true

def genuine?(headers, body)
  id, time = headers["webhook-id"], headers["webhook-timestamp"]
  return false unless id && time&.match?(/\A\d+\z/) && (Time.now.to_i - time.to_i).abs <= TOLERANCE_SECONDS

  given = headers["webhook-signature"].to_s.split.filter_map { |part| part[/\Av1,(.+)\z/, 1] }
  SECRETS.any? do |secret|
    wanted = Base64.strict_encode64(OpenSSL::HMAC.digest("SHA256", secret, "#{id}.#{time}.#{body}"))
    given.any? { |signature| OpenSSL.secure_compare(signature, wanted) }
  end
end

# The ordering key: what belongs to one resource.
def key_of(event)
  event["partitionkey"] || [event["source"], event["subject"]].compact.join(" ")
end

def take(event)
  $stdout.puts JSON.generate(key: key_of(event), position: event["flpos"], data: event["data"])
  $stdout.flush
end

def answer(method, headers, body)
  return 405 unless method == "POST"
  return 401 unless genuine?(headers, body)
  return 415 unless headers["content-type"].to_s.start_with?("application/cloudevents+json")

  event = JSON.parse(body)
  SEEN.transaction do
    place = [event["flsubscription"], key_of(event)]
    mine = [event["flgeneration"].to_i, event["flpos"].to_i]
    next 204 if ((SEEN[place] || [0, 0]) <=> mine) >= 0 # ignore what is older than what you have

    take(event)
    SEEN[place] = mine
    204
  end
rescue JSON::ParserError
  400
end

def read_request(client)
  method = client.gets(8192)&.split&.first or return
  headers = {}
  while (line = client.gets(65_536)&.chomp) && !line.empty?
    name, value = line.split(":", 2)
    headers[name.downcase] = value.to_s.strip
  end
  length = headers["content-length"].to_i
  [method, headers, length > MAX_BODY_BYTES ? nil : client.read(length)]
end

def serve(client)
  method, headers, body = read_request(client)
  return unless method

  status = body.nil? ? 413 : answer(method, headers, body)
  client.write "HTTP/1.1 #{status} #{status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
rescue SystemCallError, IOError => error
  warn "a connection broke: #{error.message}"
ensure
  client.close
end

server = TCPServer.new("127.0.0.1", Integer(ARGV.fetch(0, "8080")))
warn "listening on http://127.0.0.1:#{server.addr[1]}"
loop { Thread.new(server.accept) { |client| serve(client) } }
